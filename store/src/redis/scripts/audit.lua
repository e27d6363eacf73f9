-- most records, who, what, object, from
redis.call('XADD', KEYS[1], 'MAXLEN', ARGV[1], '*', 'w', ARGV[2], 'k', ARGV[3], 'o', ARGV[4], 'f', ARGV[5])
return 0
