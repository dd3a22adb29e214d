"""The first layer: one file for each form of the inputs."""
