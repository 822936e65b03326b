"""``@controlpanels/s3blobstorage``: the site's policy, for Volto's Site Setup and for programs."""
