"""What the command line prints, saves and shows of a fit, and the page of `credo demo`.

analysis.py   one pair from data to report
new_rows.py   the rows of --predict, and their predictions
prepared.py   rows prepared like those of the fit, or refused
observed.py   which arguments of a model are observations
tables.py     tables on the terminal and in files
held_out.py   the fit on held-out rows
gallery.py    the pictures of a fit
of_classes.py the pictures of a classifier
of_images.py  the pictures of a model in which each row is an image with latents of its own
mnist.py      MNIST beside the built-in digits, where it is at hand
vector.py     pictures as SVG files, for light and dark pages
page.py       the page, with page.html and page.css
"""
