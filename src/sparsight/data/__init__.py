"""Records, labels, splits, packed images and batched augmentation."""
