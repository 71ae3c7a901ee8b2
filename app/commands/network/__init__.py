"""Commands about the network: train, models, evaluate, benchmark, engine, dataset."""
