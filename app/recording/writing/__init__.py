"""The recorder: its state machine, its threads, and the disk it must leave room on."""
