"""What every part of the pipeline reports to: figures, problems, the newest picture."""
