"""What the figures of reports and audits are drawn with: `style`, and maps of the `sky`."""
