"""Times the engines beside each other, with two that only serve comparison."""
