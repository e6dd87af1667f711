"""One file a claim: a lecture figure reproduced, or a system trained on real data. `python -m experiments` lists them."""
