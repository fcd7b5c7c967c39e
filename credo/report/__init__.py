"""The page of `credo demo`: page.py with page.html and page.css, gallery.py for pictures, held_out.py for the rows."""
