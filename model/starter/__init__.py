"""The model that comes with Parley: its weights in `weights/`, what it was trained on in `corpus/`."""
