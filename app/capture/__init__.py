"""Where frames come from: cameras, files, streams, the simulated rig, and their pairing in time."""
