"""Makes `diabetes.csv.gz` from the table that ships with scikit-learn: measurements standardised, the category from 0.

Needs numpy and scikit-learn: `python make_data.py`. scikit-learn 1.9.1 made the committed file.
"""

import gzip

from sklearn.datasets import load_diabetes


def main():
    table = load_diabetes(scaled=False, as_frame=True).frame
    target, sex = table.pop("target"), table.pop("sex").astype(int) - 1
    table = (table - table.mean()) / table.std()
    table.insert(0, "sex", sex)
    table["progression"] = (target - target.mean()) / target.std()
    with gzip.GzipFile("diabetes.csv.gz", "wb", mtime=0) as file:
        file.write(table.to_csv(index=False, float_format="%.5f").encode())


main()
