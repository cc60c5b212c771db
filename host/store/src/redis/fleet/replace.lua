-- Puts prepared content in place of that of a source, if the instance holds the lease.
-- KEYS: the lease, the content, the log, the prepared content. ARGV: the instance, the next position, the lifetime of content
-- in milliseconds, the length of the log, the source.
if redis.call('GET', KEYS[1]) ~= ARGV[1] then
  return 'not-leader'
end
redis.call('RENAME', KEYS[4], KEYS[2])
redis.call('PEXPIRE', KEYS[2], ARGV[3])
redis.call('XADD', KEYS[3], 'MAXLEN', '~', ARGV[4], '*', 's', ARGV[5], 'p', ARGV[2], 'm', '')
return 'written'
