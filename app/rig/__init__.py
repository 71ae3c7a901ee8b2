"""Setting a rig up: sources, board capture, hand-picked points, radiometric scale."""
