"""The threads between capture and the consumers."""
