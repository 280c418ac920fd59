"""One thin script for each stage of dvc.yaml."""
