"""The engine of the live pipeline: built beside it, chosen by the rate that it keeps, replaced when it fails."""
