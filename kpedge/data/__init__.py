"""Label formats, prepared sets, sampling, augmentation, checks, public sets."""
