package rootfs

// canSnapshot: a Linux machine's programs run in a Linux container.
const canSnapshot = true
