"""The drivers: one module for each kind of camera behind the `Camera` protocol, and how they are named and opened."""
