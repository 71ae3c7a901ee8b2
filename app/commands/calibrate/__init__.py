"""`lumitherm calibrate`: boards, hand-picked points, and where views come from."""
