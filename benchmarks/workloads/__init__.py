"""What scikit-learn's users fit and predict, with fastnn and with scikit-learn, each in processes of its own."""
