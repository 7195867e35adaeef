"""What every package uses: errors, results, geometry, keypoint schemes, model cards, files, images."""
