"""One file a question: how fast, how well, how far. `python -m experiments` lists them too."""
