"""Images, features, latents -> quality figures: how near, how varied, how sharp, how likely, and what a model leaves out."""
