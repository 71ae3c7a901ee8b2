"""First start, the set-up assistant, calibration."""
