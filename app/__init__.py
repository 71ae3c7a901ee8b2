"""The Lumitherm application: command line, capture, pipeline, recording and window."""
