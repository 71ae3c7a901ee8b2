"""The PyQt6 window. Imports neither torch nor cv2 nor app.capture."""
