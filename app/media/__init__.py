"""Video files and pictures on disk: decode, pair by time stamp, encode."""
