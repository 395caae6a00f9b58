"""Images -> run folder: three families of image models trained by one objective."""
