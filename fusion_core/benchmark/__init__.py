"""Times the engines beside each other, and two more that are there for comparison alone."""
