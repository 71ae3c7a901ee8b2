"""The picture with what is drawn on it and beside it: figures, chips, marks, the colour scale, curves."""
