"""What runs the network or stands in for it: the `FusionEngine` protocol and each engine."""
