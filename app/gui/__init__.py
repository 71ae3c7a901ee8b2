"""The window: widgets that show and ask, controllers that decide. Pulls from the live pipeline by timer."""
