// An MCP server that speaks the modern era only (2026-07-28), and asks its client for input in the middle of a call.
import { McpServer, inputRequired, acceptedContent } from '@modelcontextprotocol/server';
import { serveStdio } from '@modelcontextprotocol/server/stdio';

serveStdio(() => {
  const server = new McpServer({ name: 'modern', version: '1.0.0' }, { instructions: 'A server of the modern era.' });
  server.registerTool('era', { description: 'Tells which era this is' }, () => ({ content: [{ type: 'text', text: 'modern' }] }));
  server.registerTool('ask', { description: 'Asks the user for a word' }, (ctx) => {
    const answer = acceptedContent(ctx.mcpReq.inputResponses, 'word');
    if (answer) return { content: [{ type: 'text', text: `the word is ${answer.word}` }] };
    return inputRequired({
      inputRequests: {
        word: inputRequired.elicit({
          message: 'Which word?',
          requestedSchema: { type: 'object', properties: { word: { type: 'string' } }, required: ['word'] },
        }),
      },
    });
  });
  return server;
}, { legacy: 'reject' });
