package host

// Status is what became of a step.
type Status string

// The statuses. Skipped means that an earlier step, or nobody's need, made it pointless.
const (
	OK      Status = "ok"
	Weak    Status = "weak"
	Failed  Status = "failed"
	Skipped Status = "skipped"
)

// A Check is one step of a diagnosis.
type Check struct {
	Step   string `json:"step"`
	Status Status `json:"status"`
	Detail string `json:"detail"`        // what was seen
	Fix    string `json:"fix,omitempty"` // the command or setting that mends it
	Cause  Cause  `json:"-"`             // which of the known causes it is; Fix may depend on the distribution
}

// Cause is a known reason for which a step is not ok.
type Cause string

// The causes.
const (
	NoUserNS       Cause = "no user namespaces, for no setting that is known"
	MaxUserNS      Cause = "user.max_user_namespaces"
	UserNSClone    Cause = "kernel.unprivileged_userns_clone"
	AppArmorUserNS Cause = "kernel.apparmor_restrict_unprivileged_userns"
	NoHelper       Cause = "newuidmap or newgidmap is missing"
	WeakHelper     Cause = "newuidmap or newgidmap has no privileges"
	NoSubIDs       Cause = "no line in /etc/subuid or /etc/subgid"
	NoPasswd       Cause = "no line in /etc/passwd"
	NoNewPrivs     Cause = "no_new_privs"
	CgroupV1       Cause = "cgroup v1 as a user"
	NoCgroup       Cause = "no cgroup to write to"
	NoController   Cause = "a controller is not delegated"
	MaskedProc     Cause = "a fresh /proc may not be mounted"
	NoMount        Cause = "mounting is not allowed"
	NoSeccomp      Cause = "no system call filters"
	Unknown        Cause = ""
)
