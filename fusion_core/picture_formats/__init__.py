"""The formats of picture files: from bytes to what they store."""
