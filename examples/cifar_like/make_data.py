"""Makes `images.npz`: small colour images of ten classes, from the digits that ship with scikit-learn.

Each digit gets a colour, a place and a coloured, noisy background of its own, so that neither one pixel nor the mean colour
tells the class. Needs numpy and scikit-learn: `python make_data.py`. Random numbers are seeded; scikit-learn 1.9.1 made the
committed file.
"""

import numpy
from sklearn.datasets import load_digits

SIZE = 12


def main():
    random = numpy.random.default_rng(2)
    digits = load_digits()
    rows, columns = numpy.mgrid[0:SIZE, 0:SIZE] / (SIZE - 1)
    images = numpy.empty((len(digits.images), 3, SIZE, SIZE), numpy.uint8)
    for index, digit in enumerate(digits.images):
        mask = numpy.zeros((SIZE, SIZE))
        top, left = random.integers(0, SIZE - 8 + 1, 2)
        mask[top : top + 8, left : left + 8] = digit / 16
        colour, corners = random.uniform(0, 1, 3), random.uniform(0, 1, (4, 3))
        background = sum(
            corner[:, None, None] * weight
            for corner, weight in zip(corners, [(1 - rows) * (1 - columns), rows * (1 - columns), (1 - rows) * columns, rows * columns])
        )
        # The digit must differ from what lies behind it.
        colour = numpy.where(background.mean(axis=(1, 2)) > 0.5, colour * 0.5, 0.5 + colour * 0.5)
        image = background * (1 - mask) + colour[:, None, None] * mask + random.normal(0, 0.05, background.shape)
        images[index] = numpy.clip(numpy.round(image * 255), 0, 255)
    numpy.savez_compressed("images.npz", images=images, labels=digits.target.astype(numpy.int64))


main()
