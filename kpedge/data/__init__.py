"""Labels and photos in, training samples out."""
