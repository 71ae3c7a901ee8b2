"""Playing recordings and pairs of videos, and comparing two ways to fuse them."""
