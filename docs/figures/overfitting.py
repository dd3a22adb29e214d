"""Plot the learning curves of a network that overfits: 101,770 parameters, 1,000 samples."""

import matplotlib.pyplot as plt

import fastnn
from fastnn.plots import LearningCurveDisplay

train_set = fastnn.load_mnist()[0]
few, others = train_set.take(slice(1000)), train_set.take(slice(50_000, 52_000))
run = fastnn.train(
    fastnn.Network.for_data(few, hidden=(128,)),
    few,
    epochs=60,
    batch_size=50,
    learning_rate=0.2,
    validation=others,
    backend="numpy",
)
figure, axes = plt.subplots(2, 1, figsize=(6, 6.6), layout="constrained")
LearningCurveDisplay.from_history(run.history, axes)
