"""The pages: each only arranges. Not `pages/`, whose files Streamlit would run by themselves on a first visit."""
