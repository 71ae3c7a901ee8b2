"""What all commands share: names of options, how results are said, examples."""
