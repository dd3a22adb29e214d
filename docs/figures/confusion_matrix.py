"""Plot the confusion matrix of recipe E."""

import matplotlib.pyplot as plt

import fastnn
from fastnn.plots import ConfusionDisplay

recipe = fastnn.get_recipe("E")
splits = recipe.load(seed=0)
run = fastnn.train(
    fastnn.Network.for_data(splits.train, recipe.hidden), splits.train, backend="numpy", **recipe.settings
)
proba = fastnn.get_backend("numpy").predict_proba(run.network, splits.test.images)
figure, ax = plt.subplots(figsize=(6.6, 5), layout="constrained")
ConfusionDisplay.from_predictions(splits.test.labels, proba.argmax(axis=1), ax=ax)
figure.get_layout_engine().set(rect=(0, 0, 0.95, 1))  # the layout leaves no room for the title of the last scale
