"""What every part of the window uses and that is no widget: theme, language, settings, actions, background tasks."""
