"""Images -> quality figures: distances between sets of images, and of reconstructions to their originals."""
