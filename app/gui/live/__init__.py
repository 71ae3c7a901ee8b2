"""The live page, its panels and the controllers behind them."""
