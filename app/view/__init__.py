"""What is shown of a fused frame: views, palettes, isotherms, composing them."""
