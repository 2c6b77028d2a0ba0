package bench

import "slices"

// quantile is the smallest sample that at least the share q of all is not above (the nearest rank); 0 of none. Of few
// samples a high quantile is their maximum.
func quantile(samples []float64, q float64) float64 {
	if len(samples) == 0 {
		return 0
	}
	s := slices.Sorted(slices.Values(samples))
	rank := int(q*float64(len(s)) + 0.999999) // 0.99 * 100 is a little more than 99
	return s[min(max(rank, 1), len(s))-1]
}

// median is the middle sample, or the mean of the two in the middle.
func median(samples []float64) float64 {
	if len(samples) == 0 {
		return 0
	}
	s := slices.Sorted(slices.Values(samples))
	n := len(s)
	return (s[(n-1)/2] + s[n/2]) / 2
}

// ratio of two medians; ok is false if there is none.
func ratio(a, b []float64) (r float64, ok bool) {
	if len(a) == 0 || median(b) == 0 {
		return 0, false
	}
	return median(a) / median(b), true
}
