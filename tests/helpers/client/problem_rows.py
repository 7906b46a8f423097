"""Rows with sets of labels, or with numbers, that their texts tell: by which words of the toy corpus are in them."""

import numpy as np

from simulations.corpora import toy

ANIMALS = {"cow", "horse", "pig", "sheep", "fish", "gull"}
THINGS = {"anchor", "knife", "pan", "plate", "pot", "spoon", "table", "clock", "ticket", "luggage"}
PLACES = {"barn", "field", "dock", "oven", "platform", "tunnel", "tide", "wave"}
LABELS = ("animal", "place", "thing")


def label_sets():
    """Return the toy corpus's texts, each with what its words name; some name nothing."""
    groups = {"animal": ANIMALS, "thing": THINGS, "place": PLACES}
    return [
        {"text": row["text"], "label": [name for name, words in groups.items() if words & {*row["text"].split()}]}
        for row in toy.load().rows
    ]


def numbers(outputs=1):
    """Return the toy corpus's texts, each with shares of its words that name something, about 0 and of variance 1."""
    groups = (ANIMALS | PLACES, THINGS)[:outputs]
    counts = np.array(
        [[np.mean([w in group for w in row["text"].split()]) for group in groups] for row in toy.load().rows]
    )
    scaled = (counts - counts.mean(0)) / counts.std(0)
    values = [[round(float(each), 4) for each in row] for row in scaled]
    return [
        {"text": row["text"], "label": value if outputs > 1 else value[0]}
        for row, value in zip(toy.load().rows, values, strict=True)
    ]
