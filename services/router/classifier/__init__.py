"""Text to label: a linear model over word and character n-grams that knows when it does not know. No database, no clock.

    model     the trained model: load, save, predict (a prediction is a few sparse look-ups, no training library needed)
    training  learning one from labelled texts, with the confidence below which it abstains chosen on held-out texts

A model file is a NumPy archive without pickled objects, so that a foreign file can be refused but never run.
"""
