import { pick, useGraphiQL, useGraphiQLActions } from '@graphiql/react';
import { type OperationDefinitionNode, Kind, parse } from 'graphql';
import type { Entry } from './entries';
import type { Samples } from './samples';

interface Texts {
  query: string;
  variables: string;
}

// What the gallery last put into a tab, to know whether anybody has edited it.
let lastOpened: Texts | undefined;

/** Opens an entry in a new tab, or in the present one if nothing in it would be lost. */
export function useOpenEntry() {
  const { addTab, setOperationFacts, stop, updateActiveTabValues } = useGraphiQLActions();
  const { queryEditor, variableEditor, responseEditor } = useGraphiQL(
    pick('queryEditor', 'variableEditor', 'responseEditor'),
  );
  if (!queryEditor || !variableEditor || !responseEditor) {
    return;
  }

  const nothingToLose = () => {
    const query = queryEditor.getValue();
    if (query.trim() === '') {
      return true;
    }
    const untouched = query === lastOpened?.query && variableEditor.getValue() === lastOpened.variables;
    return untouched && responseEditor.getValue() === '';
  };

  return (entry: Entry, samples: Samples) => {
    // A new tab does not stop the subscription of the old one, whose events
    // would be shown in the new.
    stop();
    if (!nothingToLose()) {
      addTab();
    }

    const texts = {
      query: entry.document,
      variables: JSON.stringify(entry.variables(samples), null, 2),
    };
    queryEditor.setValue(texts.query);
    variableEditor.setValue(texts.variables);
    responseEditor.setValue('');

    // The editors report a change only after a pause; who runs the operation
    // before that would run it under the name of the previous one.
    const documentAST = parse(texts.query);
    const operations = documentAST.definitions.filter(
      (definition): definition is OperationDefinitionNode => definition.kind === Kind.OPERATION_DEFINITION,
    );
    const operationName = operations[0]?.name?.value;
    setOperationFacts({ documentAST, operations, operationName });
    updateActiveTabValues({ ...texts, operationName, response: null });

    lastOpened = texts;
  };
}
