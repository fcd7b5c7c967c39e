"""What the command line prints, saves and shows of a fit, and the page of `credo demo`.

analysis.py   one pair from data to report
held_out.py   the fit on held-out rows
gallery.py    the pictures of a fit
page.py       the page, with page.html and page.css
"""
