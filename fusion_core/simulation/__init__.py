"""The simulated rig: scene, sensors, truth."""
