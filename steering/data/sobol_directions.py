"""Writes sobol_directions.txt: one line per dimension from the second on, polynomial and initial numbers.

The numbers are those of new-joe-kuo-6 (S. Joe and F. Y. Kuo, Constructing Sobol sequences with better two-dimensional
projections, SIAM J. Sci. Comput. 30, 2635-2654, 2008), read here from the table that SciPy 1.17.1 carries.
"""
import pathlib

import numpy as np
import scipy.stats

DIMENSIONS = 1111  # all primitive polynomials up to degree 13
table = np.load(pathlib.Path(scipy.stats.__file__).parent / "_sobol_direction_numbers.npz")
lines = []
for polynomial, numbers in zip(table["poly"][1:DIMENSIONS], table["vinit"][1:DIMENSIONS]):
    degree = int(polynomial).bit_length() - 1
    lines.append(" ".join(str(int(x)) for x in [polynomial, *numbers[:degree]]))
pathlib.Path(__file__).with_suffix(".txt").write_text("\n".join(lines) + "\n")
